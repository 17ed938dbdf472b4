"""What tasks answer, in plain Python and NumPy: artifacts answer so too, without a framework."""
