"""Voice and video calls, as far as the server has a part in them."""
