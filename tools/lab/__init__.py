"""The lab: makes the shipped model files from trained weights and the face crops of ../shared/data."""
