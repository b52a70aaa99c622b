"""Identification: matcher, calibration, encrypted template store, keys, rotation, enrolment."""
