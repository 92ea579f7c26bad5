"""The Slicer side of Diff2CT. Only `SceneBridge` knows both MRML and the core; only the sections know widgets.

Nothing here imports torch: what needs it runs in a child process, `Process` and `Service`.
"""
