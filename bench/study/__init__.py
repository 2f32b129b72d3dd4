"""What runs say about structure: exponents against the number of features, quality against cost, and the claims."""
