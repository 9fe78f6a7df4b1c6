"""Profiles of users: display name, avatar and further fields, and telling the rooms of a change."""
