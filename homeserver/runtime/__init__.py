"""What a running process needs: time and chance, logging, supervision, metrics."""
