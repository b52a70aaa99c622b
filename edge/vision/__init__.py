"""All code that processes pixels: frame sources, gates, detector, tracker, alignment, embedder."""
