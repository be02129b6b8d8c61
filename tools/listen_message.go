package tools

import (
	"encoding/json"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"vault-mcp/events"
)

// changeMessage and completedMessage are how events look to clients.
type changeMessage struct {
	ID      string `json:"id"`
	URI     string `json:"uri"`
	Subject string `json:"subject"`
	Tool    string `json:"tool"`
	Version int    `json:"version,omitzero"`
	Time    string `json:"time"`
}

type completedMessage struct {
	ID      string `json:"id"`
	Tool    string `json:"tool"`
	Subject string `json:"subject"`
	OK      bool   `json:"ok"`
	Time    string `json:"time"`
}

// Message is an event as a client of the feed sees it: one line of JSON.
func (l *Listening) Message(e *events.Event, id string) json.RawMessage {
	at := e.Time.UTC().Format(time.RFC3339Nano)
	var msg any = completedMessage{ID: id, Tool: e.Tool, Subject: e.Subject, OK: e.OK, Time: at}
	if e.Type == events.ResourceChanged {
		uri := l.runner.resourceAt(l.principal, e.Path).String()
		msg = changeMessage{ID: id, URI: uri, Subject: e.Subject, Tool: e.Tool, Version: e.Version, Time: at}
	}
	b, _ := jsonv2.Marshal(msg) // strings and numbers of ours always encode
	return b
}
