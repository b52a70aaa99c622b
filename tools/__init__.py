"""Workbench tools: nothing here runs on the device."""
