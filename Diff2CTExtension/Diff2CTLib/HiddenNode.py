"""Nodes that the module draws with and nobody else needs: one of each name, in no list, not saved with the scene."""

import slicer


def find(className, name):
    """None if there is none."""
    return slicer.mrmlScene.GetFirstNode(name, className)


def findOrAdd(className, name):
    """(node, whether it is new). It is hidden before it is in the scene: the Data module looks only when a node comes, and
    would keep an entry of its name in every scene that is saved."""
    node = find(className, name)
    if node is not None:
        return node, False
    node = slicer.mrmlScene.CreateNodeByClass(className)
    node.UnRegister(None)
    node.SetName(name)
    node.HideFromEditorsOn()
    node.SetSaveWithScene(False)
    selection = slicer.app.applicationLogic().GetSelectionNode()
    active = selection.GetActivePlaceNodeID(), selection.GetActivePlaceNodeClassName()
    node = slicer.mrmlScene.AddNode(node)
    if node.IsA("vtkMRMLDisplayableNode"):
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetSaveWithScene(False)
    if node.IsA("vtkMRMLMarkupsNode"):  # the module Markups has chosen it for the points that the user places next
        selection.SetReferenceActivePlaceNodeClassName(active[1])
        selection.SetReferenceActivePlaceNodeID(active[0])
    return node, True
