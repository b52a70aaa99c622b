"""Sources of frames: cameras and files behind one interface, and the detection of failing cameras."""
