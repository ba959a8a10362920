"""Bulk generation: a plan of (index, class, seed), cut into shards that depend on nothing but the plan."""
