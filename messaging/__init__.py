"""What every service needs to publish and consume reliably; knows no saga and no domain."""
