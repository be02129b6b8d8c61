package audit

// maxBatch is how many bytes of records are written together, by and large.
const maxBatch = 64 << 10

// write writes the records in the queue until it is closed.
func (t *Trail) write() {
	defer close(t.written)
	var spare []*pending
	for {
		all := t.queue.take(spare[:0])
		if len(all) == 0 {
			return
		}
		for rest := all; len(rest) > 0; {
			t.writing.begin()
			n, note := t.writeSome(rest)
			if note != nil {
				t.opt.LogError(note)
			}
			t.writing.end()
			rest = rest[n:]
		}
		clear(all)
		spare = all
	}
}

// writeSome writes the first of the records, with what is due with them, and
// says how many it has dealt with. note is a failure that does not concern them.
func (t *Trail) writeSome(records []*pending) (n int, note error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.owe()
	err, since := t.moved, t.since
	if err == nil && t.unsound {
		err = t.syncErr
	}
	if err == nil {
		n, since = t.gather(records)
		if len(t.batch) == 0 {
			return n, nil
		}
		err = t.commit()
	} else {
		n, t.batch = len(records), append(t.batch[:0], records...)
	}
	defer clear(t.batch)
	if err != nil {
		for _, p := range t.batch {
			if t.answer(p, err) {
				t.refused++
			}
		}
		return n, nil
	}
	t.since = since
	if t.size >= t.turnAt {
		note = t.rotate()
	}
	if t.opt.Sync == Always || t.syncErr != nil {
		t.waiting += len(t.batch)
		t.unforced = append(t.unforced, t.batch...)
		wake(t.due)
		return n, note
	}
	for _, p := range t.batch {
		t.answer(p, nil)
	}
	return n, note
}

// gather makes a batch of the first of the records, up to a bound and to where
// the file is to be rotated. since is what t.since is once it is written.
func (t *Trail) gather(records []*pending) (n, since int) {
	t.begin()
	t.batch, since = t.batch[:0], t.since
	for _, p := range records {
		size := len(t.enc.buf)
		if len(t.batch) > 0 && (size >= maxBatch || t.size+t.torn+int64(size) >= t.turnAt) {
			break
		}
		n++
		if p.over.Load() { // its caller has given up and counted it
			t.answer(p, nil)
			continue
		}
		t.add(&p.rec)
		if since++; since >= t.opt.CheckpointEvery {
			t.add(&Record{Kind: Checkpoint, Count: t.next.seq})
			since = 0
		}
		p.seq = t.next.seq
		t.batch = append(t.batch, p)
	}
	return n, since
}

// owe puts the records that came too late to those that the next recovery record
// counts.
func (t *Trail) owe() { t.refused += t.late.Swap(0) }
