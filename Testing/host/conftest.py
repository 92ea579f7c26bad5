from host.fixtures import application, clean_application, sample_data

__all__ = ["application", "clean_application", "sample_data"]
