"""The axis that both X-rays share: how much each row attenuates, plotted for both views over the height in the body."""

import math

import numpy as np
import slicer
from slicer.i18n import tr as _

from Diff2CTLib import Colors, HiddenNode

_TABLE, _CHART = "Diff2CT profiles", "Diff2CT shared axis"


def sentence(ap, lateral):
    """Lag and correlation of two radiographs in words."""
    from diff2ct.radiograph_pair import shared_axis_lag

    lag, correlation = shared_axis_lag(ap, lateral)
    if math.isnan(lag):
        return _("Along the body, the views have too little in common to compare their heights.")
    where = _("level with") if abs(lag) < 0.5 else _("higher than") if lag > 0 else _("lower than")
    return _("Along the body, the lateral lies {lag}{where} the AP, correlation {correlation:.2f}.").format(
        lag="" if abs(lag) < 0.5 else f"{abs(lag):.1f} mm ", where=where, correlation=correlation
    )


def plot(ap, lateral):
    """Update the chart of both profiles and show it in the plot view of the alignment layout."""
    from diff2ct.radiograph_pair import cranio_caudal_profile

    profiles = [cranio_caudal_profile(radiograph) for radiograph in (ap, lateral)]
    low, high = min(z[0] for z, _profile in profiles), max(z[-1] for z, _profile in profiles)
    height = np.arange(low, high + 1, dtype=np.float64)
    columns = [np.interp(height, z, _unit(profile), left=np.nan, right=np.nan) for z, profile in profiles]
    table, _isNew = HiddenNode.findOrAdd("vtkMRMLTableNode", _TABLE)
    names = [_("height [mm]"), _("AP"), _("lateral")]
    with slicer.util.NodeModify(table):
        slicer.util.updateTableFromArray(table, [height, *columns], names)
    chart = _chart(table, names)
    for view in slicer.util.getNodesByClass("vtkMRMLPlotViewNode"):
        if view.GetSingletonTag() == "Diff2CTProfiles":
            view.SetPlotChartNodeID(chart.GetID())


def _unit(profile):
    """Mean 0, deviation 1: only the shape tells, as each detector has a gain and offset of its own."""
    deviation = float(np.std(profile))
    return (profile - np.mean(profile)) / deviation if deviation > 0 else profile * 0.0


def _chart(table, names):
    chart, _isNew = HiddenNode.findOrAdd("vtkMRMLPlotChartNode", _CHART)
    if chart.GetNumberOfPlotSeriesNodes() == 2:
        return chart
    chart.SetTitle(_("Attenuation along the body"))
    chart.SetXAxisTitle(_("height, toward the head [mm]"))
    chart.SetYAxisTitle(_("attenuation of a row, relative"))
    for name, color in ((names[1], Colors.AP_COLOR), (names[2], Colors.LATERAL_COLOR)):
        series, _isNew = HiddenNode.findOrAdd("vtkMRMLPlotSeriesNode", f"Diff2CT {name}")
        series.SetName(name)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName(names[0])
        series.SetYColumnName(name)
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        series.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone)
        series.SetLineWidth(2)
        series.SetColor(*color)
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
    return chart
