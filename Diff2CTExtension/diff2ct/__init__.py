"""Diff2CT core: two orthogonal X-rays in, one CT volume out. Pure Python, no Slicer, no Qt, no VTK.

Nothing is imported here, so `import diff2ct` costs nothing and `diff2ct.geometry`, `diff2ct.volume`, `diff2ct.units` and
`diff2ct.radiograph` work before torch is installed.
"""

__version__ = "0.1.0"
