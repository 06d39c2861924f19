"""The host: the facts found out about it, and the plan that follows from them."""
