"""Who it is: matcher, calibration, encrypted template store, keys, rotation, enrolment."""
