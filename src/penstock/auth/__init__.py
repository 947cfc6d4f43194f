"""Reserved for SASL: one sans-IO step function per mechanism. Not built yet."""
