// Package audit is the tamper-evident trail of every call.
//
// # What it promises
//
// Append returns only after the record has been handed to the kernel, in one
// write(2) with those that came at the same time; if that fails it returns an
// error, and the caller must refuse the call or withhold its result. Records hold no secret: arguments and results
// stand in them as keyed hashes (Trail.HMAC), so that somebody who has the key
// and knows a value can look for it, and nobody else learns anything.
//
// A Trail writes one chain of records. Whoever does not have the key cannot
// alter, drop, add or reorder records without Verify seeing it. Cutting off the
// end of a chain is seen back to the last write of its head file: at most a
// second before a crash, and nothing after a proper Close. The removal of a whole
// chain from a folder is seen by those that began there after it, which name it.
// What no trail on one disk can see is the removal of the last chains, or of one
// with all that began after it, or putting back an older copy of the files: for
// that, copy them elsewhere.
//
// When an fsync fails, its file is given up, for the kernel tells of what it lost
// only once: calls are refused until a new file can be begun (force.go). A disk
// that does not answer is waited for, for five seconds; then calls are refused
// until it does (queue.go).
//
// # Files
//
// Every process writes a chain of its own. With Options.Dir it makes a name
// that no other process has (audit-<UTC time>-<pid>-<random>.jsonl); with
// Options.Path the operator names the file, a second process that wants the
// same file is refused, and the chain goes on across restarts. Beside a chain
// X stand:
//
//	X              the records being written, JSON lines, mode 0600
//	X.000001 ...   its earlier files, oldest first; never deleted by us
//	X.head         how far the chain had got at the last fsync; locked (flock)
//	               by the process that writes the chain
//	X.next         for a moment during rotation: the next X
//
// Files must not be renamed, truncated or appended to by others (logrotate): a
// running trail notices within a second and refuses to go on. To archive, take
// the numbered files, or everything of a chain whose process has ended.
// Operators who start a fixed file afresh move X, its numbered files and X.head
// away together.
//
// # Format, version 1
//
// A line is one JSON object in UTF-8, at most 16 KiB with its line
// end, in which every character that is not printable is escaped. Its members
// stand in the order of the fields of Record; absent ones are omitted, except
// the first four and the last two:
//
//	v     1
//	seq   counts from 1 within the chain, dense
//	time  RFC 3339 with nanoseconds, UTC
//	kind  attempt | outcome | reject (of calls);
//	      open | recovery | checkpoint | rotate (of the trail itself)
//	prev  the mac of the record before it; 64 zeros in the first one
//	mac   hex HMAC-SHA-256 of all the bytes of the line before `,"mac":`
//
// Records of the trail itself:
//
//	open        first in every file, and at each start of a process in an old
//	            one: chain (random name of the chain), key (fingerprint of the
//	            key), part (number of the file in the chain), file (only first
//	            in a file: the name of the file before it, if there is one),
//	            chains (only at a start: other chains in the folder at that
//	            moment, at most 64, the last ones by name)
//	recovery    after something could not be written: cut (bytes of a partial
//	            line that were taken off), torn (bytes before this record that
//	            stay, of a crash or because they could not be taken off, to be
//	            skipped), unsynced (records before this file for which fsync
//	            failed: they may be lost with the power, and callers who waited
//	            for it were refused), refused (records that were not written,
//	            or written too late: their calls were refused)
//	checkpoint  count (records before it in the chain)
//	rotate      file (the name that this file is about to get)
//
// The head file is one JSON object padded to 512 bytes, written in place after
// an fsync of the records: v, chain, part, seq, size (bytes in the file after
// that record), head (its mac), mac (over all before it, as above).
//
// Three keys are derived from the key given (HKDF-SHA-256, info strings
// "vault-mcp audit chain v1", "... head v1", "... value v1"); the fingerprint is
// derived in the same way ("... fingerprint v1").
package audit
