"""Ready-made configurations. `lograft generate` and `lograft up --monitoring` read them from here."""
