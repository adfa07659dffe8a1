"""Who is who: evidence, shared identifiers, constrained clustering, stable canonical ids. Pure, on numpy arrays."""
