"""The mouse wheel scrolls the panel and changes no number or choice that happens to be under it, as it would do in Qt."""

import qt
import slicer

_KINDS = ("QComboBox", "QAbstractSpinBox", "QSlider")


class WheelGuard(qt.QObject):
    """Leaves the wheel to what a field lies in. Keys and arrows change the field as before."""

    def guard(self, panel):
        """All fields in `panel`, also those inside selectors of nodes and sliders with a number beside."""
        for widget in slicer.util.findChildren(panel):
            if any(widget.inherits(kind) for kind in _KINDS):
                widget.focusPolicy = qt.Qt.StrongFocus  # else the wheel moves the focus here
                widget.installEventFilter(self)

    def eventFilter(self, _watched, event):
        isWheel = event.type() == qt.QEvent.Wheel
        if isWheel:
            event.ignore()
        return isWheel
