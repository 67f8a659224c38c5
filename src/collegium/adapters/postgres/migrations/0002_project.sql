-- The project of a run stands in its head, so that those of one are found by an index. No run that a release has stored
-- belongs to one. Where nobody uses projects, the indexes are empty and cost nothing.
ALTER TABLE heads ADD COLUMN project text COLLATE "C" NOT NULL DEFAULT '';
CREATE INDEX heads_project ON heads (tenant, project, run) WHERE project <> '';
CREATE INDEX heads_project_status ON heads (tenant, project, status, run) WHERE project <> '';
