"""What people report: events, rooms, users. Kept with what was seen, for administrators."""
