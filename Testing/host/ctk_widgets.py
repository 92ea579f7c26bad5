"""Stand-ins for the CTK widgets that a module may use. Looks are simplified; names, defaults and signals are CTK's."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Property, QEvent, QObject, QPoint, QSize, Qt, Signal
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QAbstractButton,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QMessageBox,
    QSlider,
    QStyle,
    QStyleOptionButton,
    QToolButton,
    QWidget,
)

from .standin import forwarded, slot, stored


class ctkCollapsibleButton(QAbstractButton):
    """A headline that hides what is below it. Only the headline can be clicked."""

    contentsCollapsed = Signal(bool)

    def __init__(self, *arguments: str | QWidget | None):
        super().__init__(next((argument for argument in arguments if isinstance(argument, QWidget)), None))
        self._hidden_by_me: set[QObject] = set()
        self._collapsed_height = 10
        self.setCheckable(True)
        self.setChecked(True)
        self.setText(next((argument for argument in arguments if isinstance(argument, str)), ""))
        self.toggled.connect(self._on_toggled)
        self._place_contents()

    collapsed = Property(bool, lambda self: not self.isChecked(), lambda self, value: self.setChecked(not value))

    def _set_collapsed_height(self, height: int) -> None:
        self._collapsed_height = height
        self._place_contents()

    collapsedHeight = Property(int, lambda self: self._collapsed_height, _set_collapsed_height)

    def _headline(self) -> int:
        return self.fontMetrics().height() + 8

    def _place_contents(self) -> None:
        self.setContentsMargins(0, self._headline(), 0, 0)
        self.setMaximumHeight(16777215 if self.isChecked() else self._headline() + self._collapsed_height)
        self.updateGeometry()

    def _on_toggled(self, expanded: bool) -> None:
        if expanded:
            hidden, self._hidden_by_me = self._hidden_by_me, set()
            for child in hidden:
                child.setVisible(True)
        else:
            for child in self._content():
                self._hide(child)
        self._place_contents()
        self.contentsCollapsed.emit(not expanded)

    def _content(self) -> list[QWidget]:
        return [child for child in self.children() if isinstance(child, QWidget)]

    def _hide(self, child: QWidget) -> None:
        if not child.isHidden():
            child.setVisible(False)
            self._hidden_by_me.add(child)

    def childEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.ChildAdded and isinstance(event.child(), QWidget):
            event.child().installEventFilter(self)
        elif event.type() == QEvent.Type.ChildRemoved:
            self._hidden_by_me.discard(event.child())
        super().childEvent(event)

    def eventFilter(self, child: QObject, event: QEvent) -> bool:
        """What is shown while the section is collapsed appears when it opens."""
        if event.type() == QEvent.Type.ShowToParent and not self.isChecked():
            self._hide(child)
        return super().eventFilter(child, event)

    def hitButton(self, position: QPoint) -> bool:
        return position.y() < self._headline()

    def sizeHint(self) -> QSize:
        headline = QSize(self.fontMetrics().horizontalAdvance(self.text()) + 40, self._headline())
        if not self.isChecked():
            return headline + QSize(0, self._collapsed_height)
        return headline if self.layout() is None else super().sizeHint().expandedTo(headline)

    minimumSizeHint = sizeHint

    def paintEvent(self, event: QPaintEvent) -> None:
        painter, option = QPainter(self), QStyleOptionButton()
        option.initFrom(self)
        option.rect = self.rect().adjusted(0, 0, 0, self._headline() - self.height())
        self.style().drawControl(QStyle.ControlElement.CE_PushButtonBevel, option, painter, self)
        arrow = (
            QStyle.PrimitiveElement.PE_IndicatorArrowDown
            if self.isChecked()
            else QStyle.PrimitiveElement.PE_IndicatorArrowRight
        )
        text_rect = option.rect.adjusted(24, 0, -4, 0)
        option.rect = option.rect.adjusted(6, 4, 0, -4)
        option.rect.setWidth(12)
        self.style().drawPrimitive(arrow, option, painter, self)
        painter.drawText(text_rect, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, self.text())


class ctkDoubleSlider(QWidget):
    """A slider over real numbers: integer positions times singleStep."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    sliderMoved = Signal(float)
    sliderPressed = Signal()
    sliderReleased = Signal()
    rangeChanged = Signal(float, float)

    def __init__(self, *arguments: Qt.Orientation | QWidget | None):
        orientation = arguments[0] if arguments and isinstance(arguments[0], Qt.Orientation) else Qt.Orientation.Vertical
        super().__init__(next((a for a in arguments if isinstance(a, QWidget)), None))
        self._minimum, self._maximum, self._step, self._page, self._value = 0.0, 99.0, 1.0, 10.0, 0.0
        self._slider = QSlider(orientation)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        self._slider.valueChanged.connect(lambda position: self._take(self._minimum + position * self._step))
        self._slider.sliderMoved.connect(lambda position: self.sliderMoved.emit(self._minimum + position * self._step))
        self._slider.sliderPressed.connect(self.sliderPressed)
        self._slider.sliderReleased.connect(self.sliderReleased)
        self._rescale()

    def _rescale(self) -> None:
        self._slider.blockSignals(True)
        self._slider.setRange(0, round((self._maximum - self._minimum) / self._step))
        self._slider.setPageStep(max(1, round(self._page / self._step)))
        self._slider.setValue(round((self._value - self._minimum) / self._step))
        self._slider.blockSignals(False)

    def _take(self, value: float) -> None:
        value = min(max(value, self._minimum), self._maximum)
        if value != self._value:
            self._value = value
            self._rescale()
            self.valueChanged.emit(value)

    def _set_minimum(self, value: float) -> None:
        self.setRange(value, max(value, self._maximum))

    def _set_maximum(self, value: float) -> None:
        self.setRange(min(value, self._minimum), value)

    def _set_step(self, value: float) -> None:
        self._step = value
        self._rescale()

    def _set_page(self, value: float) -> None:
        self._page = value
        self._rescale()

    value = Property(float, lambda self: self._value, lambda self, value: self.setValue(value))
    minimum = Property(float, lambda self: self._minimum, _set_minimum)
    maximum = Property(float, lambda self: self._maximum, _set_maximum)
    singleStep = Property(float, lambda self: self._step, _set_step)
    pageStep = Property(float, lambda self: self._page, _set_page)
    orientation = Property(
        Qt.Orientation, lambda self: self._slider.orientation(), lambda self, o: self._slider.setOrientation(o)
    )
    tracking = Property(bool, lambda self: self._slider.hasTracking(), lambda self, on: self._slider.setTracking(on))

    @slot("setValue(double)")
    def setValue(self, value: float) -> None:
        self._take(value)

    def setRange(self, minimum: float, maximum: float) -> None:  # public in C++, but no slot: Python cannot call it
        self._minimum, self._maximum = minimum, maximum
        self._take(self._value)
        self._rescale()
        self.rangeChanged.emit(minimum, maximum)


class ctkSliderWidget(QWidget):
    """A slider and a spin box with one value."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self._slider, self._spin_box = ctkDoubleSlider(Qt.Orientation.Horizontal), QDoubleSpinBox()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        layout.addWidget(self._spin_box)
        self._emitted = 0.0
        self._slider.valueChanged.connect(self._spin_box.setValue)
        self._spin_box.valueChanged.connect(self._take)
        self._slider._slider.sliderReleased.connect(lambda: self._emit(final=True))

    def _take(self, value: float) -> None:
        self._slider.setValue(value)
        self._emit(final=self.tracking or not self._slider._slider.isSliderDown())

    def _emit(self, final: bool) -> None:
        value = self._spin_box.value()
        if not final:
            self.valueIsChanging.emit(value)
        elif value != self._emitted:
            self._emitted = value
            self.valueChanged.emit(value)

    def _set_range(self, minimum: float, maximum: float) -> None:
        self._slider.setRange(minimum, maximum)
        self._spin_box.setRange(minimum, maximum)

    def _set_step(self, value: float) -> None:
        self._slider.singleStep = value
        self._spin_box.setSingleStep(value)

    value = forwarded(float, "_spin_box", "value")
    minimum = Property(float, lambda s: s._spin_box.minimum(), lambda s, v: s._set_range(v, max(v, s._spin_box.maximum())))
    maximum = Property(float, lambda s: s._spin_box.maximum(), lambda s, v: s._set_range(min(v, s._spin_box.minimum()), v))
    singleStep = Property(float, lambda self: self._spin_box.singleStep(), _set_step)
    pageStep = Property(float, lambda self: self._slider.pageStep, lambda self, v: setattr(self._slider, "pageStep", v))
    decimals = forwarded(int, "_spin_box", "decimals")
    prefix = forwarded(str, "_spin_box", "prefix")
    suffix = forwarded(str, "_spin_box", "suffix")
    tracking = stored(bool, "tracking", True)
    spinBoxVisible = Property(bool, lambda s: not s._spin_box.isHidden(), lambda s, on: s.setSpinBoxVisible(on))

    @slot("setValue(double)")
    def setValue(self, value: float) -> None:
        self._spin_box.setValue(value)

    @slot("reset()")
    def reset(self) -> None:
        self._spin_box.setValue(0)

    @slot("setSpinBoxVisible(bool)")
    def setSpinBoxVisible(self, visible: bool) -> None:
        self._spin_box.setVisible(visible)


class ctkDoubleSpinBox(QWidget):
    """CTK's is a QWidget around a spin box, no QDoubleSpinBox."""

    valueChanged = Signal(float)
    decimalsChanged = Signal(int)
    editingFinished = Signal()

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self._box = QDoubleSpinBox()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self._box.valueChanged.connect(self.valueChanged)
        self._box.editingFinished.connect(self.editingFinished)

    def _set_decimals(self, decimals: int) -> None:
        self._box.setDecimals(decimals)
        self.decimalsChanged.emit(decimals)

    value = forwarded(float, "_box", "value")
    minimum = forwarded(float, "_box", "minimum")
    maximum = forwarded(float, "_box", "maximum")
    singleStep = forwarded(float, "_box", "singleStep")
    decimals = Property(int, lambda self: self._box.decimals(), _set_decimals)
    prefix = forwarded(str, "_box", "prefix")
    suffix = forwarded(str, "_box", "suffix")
    text = Property(str, lambda self: self._box.text())

    @slot("setValue(double)")
    def setValue(self, value: float) -> None:
        self._box.setValue(value)


class ctkPathLineEdit(QWidget):
    """A path to type, to choose from a history, or to browse for."""

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)
    Dirs, Files, Drives, NoSymLinks, AllEntries = 0x1, 0x2, 0x4, 0x8, 0x7
    Readable, Writable, Executable, Hidden, NoFilter = 0x10, 0x20, 0x40, 0x100, -1

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self._valid = False
        self._combo_box, self._browse = QComboBox(), QToolButton()
        self._combo_box.setEditable(True)
        self._combo_box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._combo_box.setMinimumContentsLength(15)
        self._browse.setText("...")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo_box, 1)
        layout.addWidget(self._browse)
        self._combo_box.editTextChanged.connect(self._on_changed)
        self._browse.clicked.connect(lambda: self.browse())

    def _on_changed(self, text: str) -> None:
        path = Path(text)
        valid = bool(text) and (
            (
                bool(self.filters & self.Files)
                and (path.is_file() or (bool(self.filters & self.Writable) and path.parent.is_dir()))
            )
            or (bool(self.filters & self.Dirs) and path.is_dir())
        )
        if valid != self._valid:
            self._valid = valid
            self.validInputChanged.emit(valid)
        self.currentPathChanged.emit(text)

    currentPath = Property(str, lambda self: self._combo_box.currentText(), lambda self, path: self.setCurrentPath(path))
    filters = stored(int, "filters", AllEntries)
    nameFilters = stored("QStringList", "nameFilters", [])
    label = stored(str, "label", "")
    settingKey = stored(str, "settingKey", "")
    showBrowseButton = Property(bool, lambda s: not s._browse.isHidden(), lambda s, on: s._browse.setVisible(on))
    showHistoryButton = stored(bool, "showHistoryButton", True)

    @slot("setCurrentPath(QString)")
    def setCurrentPath(self, path: str) -> None:
        self._combo_box.setEditText(path)

    @slot("addCurrentPathToHistory()")
    def addCurrentPathToHistory(self) -> None:
        if self._combo_box.findText(self.currentPath) < 0:
            self._combo_box.addItem(self.currentPath)

    @slot("retrieveHistory()")
    def retrieveHistory(self) -> None:
        """The history lives as long as the widget."""

    @slot("browse()")
    def browse(self) -> None:
        if not self.filters & self.Files:
            path = QFileDialog.getExistingDirectory(self, self.label, self.currentPath)
        else:
            ask = QFileDialog.getSaveFileName if self.filters & self.Writable else QFileDialog.getOpenFileName
            path, _ = ask(self, self.label, self.currentPath, ";;".join(self.nameFilters))
        if path:
            self.setCurrentPath(path)


class ctkComboBox(QComboBox):
    """Shows defaultText while nothing is chosen."""

    defaultText = Property(str, lambda self: self.placeholderText(), lambda self, text: self.setPlaceholderText(text))


class ctkCheckBox(QCheckBox):
    pass


class ctkMessageBox(QMessageBox):
    """slicer.util.messageBox uses it; in testing mode no box opens."""

    dontShowAgainSettingsKey = stored(str, "dontShowAgainSettingsKey", "")


WIDGETS = [
    ctkCheckBox,
    ctkCollapsibleButton,
    ctkComboBox,
    ctkDoubleSlider,
    ctkDoubleSpinBox,
    ctkMessageBox,
    ctkPathLineEdit,
    ctkSliderWidget,
]
