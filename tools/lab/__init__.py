"""The lab: from trained weights and the face crops of ../shared/data to the model files that the runtime ships."""
