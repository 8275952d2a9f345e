-- Whose a job is: the name of the token that it was submitted with; NULL for the controller's own user.

ALTER TABLE job ADD COLUMN owner TEXT;
