"""The mouse wheel scrolls the panel and changes no number or choice that happens to be under it, as it would do in Qt."""

import qt

_KINDS = (qt.QComboBox, qt.QDoubleSpinBox, qt.QSpinBox)


class WheelGuard(qt.QObject):
    """Leaves the wheel to what a field lies in. Keys and arrows change the field as before."""

    def guard(self, widgets):
        """Those of `widgets` that are fields."""
        for widget in widgets:
            if type(widget) in _KINDS:
                widget.focusPolicy = qt.Qt.StrongFocus  # else the wheel moves the focus here
                widget.installEventFilter(self)

    def eventFilter(self, _watched, event):
        isWheel = event.type() == qt.QEvent.Wheel
        if isWheel:
            event.ignore()
        return isWheel
