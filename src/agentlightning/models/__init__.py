"""The models we call ourselves (optimiser, judge): where they are, how they are asked, what they cost."""
