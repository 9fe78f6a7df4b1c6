"""Readers of event content: each looks only at what is asked for, because other people wrote the rest."""
