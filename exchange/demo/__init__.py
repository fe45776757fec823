"""The demonstration: two countries on one machine, exchanging real published figures."""
