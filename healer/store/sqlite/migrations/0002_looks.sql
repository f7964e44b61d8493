-- What a guard asks of past runs is a seek and no longer grows with a playbook's history; the order
-- in which due episodes are claimed is read from the index alone.

DROP INDEX run_by_playbook;
CREATE INDEX run_by_result ON run (playbook, result, finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX run_by_target ON run (target, playbook, finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX run_by_lock ON run (lock, playbook, finished_at) WHERE finished_at IS NOT NULL;

DROP INDEX episode_due;
CREATE INDEX episode_due ON episode (due_at, severity_rank, opened_at, id) WHERE state <> 'closed';
