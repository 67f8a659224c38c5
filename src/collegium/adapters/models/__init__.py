"""Language models behind the ``Model`` port: two ways in (lean and rich), one local engine, and what wraps them."""
