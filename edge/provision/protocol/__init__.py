"""The protocol of the cable, used at both ends: framing, session and messages (sans-IO), and the port."""
