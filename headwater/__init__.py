"""headwater: run the frozen backbone once, train every head in seconds."""
