"""The control plane: decides (in Python), never moves bytes."""
