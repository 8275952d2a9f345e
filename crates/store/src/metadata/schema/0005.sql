-- Jobs that were removed while rows of their tasks are still there to be deleted, a batch at a time.

-- 1: nobody is shown the job or its tasks any more.
ALTER TABLE job ADD COLUMN removed INTEGER NOT NULL DEFAULT 0;

CREATE INDEX job_removed ON job (id) WHERE removed = 1;
