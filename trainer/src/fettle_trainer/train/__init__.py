"""Training itself: settings resolved, rows planned into steps, the model adapted, the loss, the engine."""
