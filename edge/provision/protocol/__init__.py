"""What goes over the cable, the same at both ends: framing, session, messages (sans-IO), and the port."""
