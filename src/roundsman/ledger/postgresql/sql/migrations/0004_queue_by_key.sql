-- Where a line begins is looked up by this index, a slot by the key. While statistics said that the queue is empty, both were
-- taken to cost the same, and a slot was looked for through the whole of this one. A condition that only a look for a line
-- fulfils keeps them apart.
DROP INDEX queue_order;
CREATE INDEX queue_order ON queue (line, ready, slot_id) WHERE line IS NOT NULL;

-- Likewise a device's slots, which are looked up by slots_by_device, and this one, which is for jobs.
DROP INDEX slots_by_job;
CREATE INDEX slots_by_job ON slots (job, device) WHERE job IS NOT NULL;
