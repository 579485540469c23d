"""What people call: text-to-image and its bundled weights."""
