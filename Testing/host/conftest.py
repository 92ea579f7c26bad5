from host.fixtures import application, clean_application

__all__ = ["application", "clean_application"]
