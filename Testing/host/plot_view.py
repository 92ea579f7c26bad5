"""A plot view: the chart node of the view drawn with VTK's charts. Slicer's own plot view is Qt code that slicer-core lacks."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6.QtWidgets import QWidget

from .mrml_widgets import Observers
from .rendering import Picture
from .standin import invokable, slot
from .views import _Header, _View, _ViewWidget


class PlotPicture(Picture):
    def __init__(self, node: slicer.vtkMRMLPlotViewNode):
        super().__init__()
        self._node = node
        self._chart, self._scene, self._actor = vtk.vtkChartXY(), vtk.vtkContextScene(), vtk.vtkContextActor()
        self._scene.AddItem(self._chart)
        self._actor.SetScene(self._scene)
        self._scene.SetRenderer(self.renderer)
        self.renderer.AddActor(self._actor)
        self.renderer.SetBackground(1, 1, 1)

    def render(self, width: int, height: int) -> Any:
        self._chart.ClearPlots()
        node = self._node.GetPlotChartNode()
        if node is not None:
            self._fill(node)
        return super().render(width, height)

    def _fill(self, node: slicer.vtkMRMLPlotChartNode) -> None:
        chart = self._chart
        chart.SetTitle(node.GetTitle() if node.GetTitleVisibility() and node.GetTitle() else "")
        chart.SetShowLegend(bool(node.GetLegendVisibility()))
        for axis, title, visible in (
            (vtk.vtkAxis.BOTTOM, node.GetXAxisTitle(), node.GetXAxisTitleVisibility()),
            (vtk.vtkAxis.LEFT, node.GetYAxisTitle(), node.GetYAxisTitleVisibility()),
        ):
            chart.GetAxis(axis).SetTitle(title if visible and title else "")
            chart.GetAxis(axis).SetGridVisible(bool(node.GetGridVisibility()))
        for index in range(node.GetNumberOfPlotSeriesNodes()):
            series = node.GetNthPlotSeriesNode(index)
            if series is not None and series.GetTableNode() is not None:
                self._add(series)
        chart.RecalculateBounds()

    def _add(self, series: slicer.vtkMRMLPlotSeriesNode) -> None:
        table, y_name = series.GetTableNode().GetTable(), series.GetYColumnName()
        if table.GetColumnByName(y_name) is None:
            return
        kind = series.GetPlotType()
        plot = self._chart.AddPlot(vtk.vtkChart.BAR if kind == slicer.vtkMRMLPlotSeriesNode.PlotTypeBar else vtk.vtkChart.LINE)
        indexed = kind in (slicer.vtkMRMLPlotSeriesNode.PlotTypeLine, slicer.vtkMRMLPlotSeriesNode.PlotTypeBar)
        if indexed or table.GetColumnByName(series.GetXColumnName()) is None:
            plot.SetUseIndexForXSeries(True)
            plot.SetInputData(table, y_name, y_name)
        else:
            plot.SetInputData(table, series.GetXColumnName(), y_name)
        color = series.GetColor()
        plot.SetColorF(*color)
        plot.SetWidth(series.GetLineWidth())
        plot.SetLabel(series.GetName())
        plot.GetPen().SetLineType(series.GetLineStyle())


class qMRMLPlotView(_View):
    def __init__(self, parent: QWidget | None, node: slicer.vtkMRMLPlotViewNode):
        super().__init__(parent)
        self._node = node
        self._observers = Observers(self)
        self._observers.add(node, vtk.vtkCommand.ModifiedEvent, self.update)

    def make_picture(self) -> Picture:
        return PlotPicture(self._node)

    @invokable("mrmlPlotViewNode()")
    def mrmlPlotViewNode(self) -> slicer.vtkMRMLPlotViewNode:
        return self._node

    @slot("fitToContent()")
    def fitToContent(self) -> None:
        self.update()


class qMRMLPlotWidget(_ViewWidget):
    def __init__(self, node: slicer.vtkMRMLPlotViewNode, scene: slicer.vtkMRMLScene, application_logic: Any):
        super().__init__(_Header(None, node), qMRMLPlotView(None, node))
        self.setMRMLScene(scene)

    @invokable("mrmlPlotViewNode()")
    def mrmlPlotViewNode(self) -> slicer.vtkMRMLPlotViewNode:
        return self._view._node

    @invokable("plotView()")
    def plotView(self) -> QWidget:
        return self._view

    @invokable("plotController()")
    def plotController(self) -> QWidget:
        return self._header
