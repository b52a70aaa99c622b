"""What touches pixels: frame sources, gates, detector, tracker, alignment, embedder."""
