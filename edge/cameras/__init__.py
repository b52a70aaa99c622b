"""What takes pictures: cameras and files behind one interface, and the watch over a camera that fails."""
