package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// What makes this program the followers of BenchmarkFollowers: at which address, and
// with which keys.
const (
	followersOf   = "VAULT_MCP_TEST_FOLLOWERS_OF"
	followersKeys = "VAULT_MCP_TEST_FOLLOWERS_KEYS"
)

// followAsMany opens streams of events with keys in turn, says when all are open, and
// takes what comes until its input ends.
func followAsMany(addr, keys string) error {
	all := strings.Split(keys, ",")
	failed := make(chan error, manyFollowers+1)
	var opened sync.WaitGroup
	opened.Add(manyFollowers)
	room := make(chan struct{}, 64) // so many open one at a time
	for i := range manyFollowers {
		room <- struct{}{}
		go func() {
			failed <- followAsOne(addr, i, all[i%len(all)], func() { <-room; opened.Done() })
		}()
	}
	go func() {
		opened.Wait()
		fmt.Println("open")
		_, err := io.Copy(io.Discard, os.Stdin)
		failed <- err
	}()
	return <-failed
}

// followAsOne follows with one stream. Where there is no room for it yet, those who
// followed before have not been seen to go.
func followAsOne(addr string, i int, key string, opened func()) error {
	for {
		err := followOnce(addr, i, key, opened)
		if !errors.Is(err, errNoRoom) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

var errNoRoom = errors.New("there is no room for one more")

func followOnce(addr string, i int, key string, opened func()) error {
	from := net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%10))} // each has so many ports
	conn, err := (&net.Dialer{LocalAddr: &from}).Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if _, err = fmt.Fprintf(conn, "GET /events HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: %s\r\n\r\n", key); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return fmt.Errorf("a follower's stream ended: %w", err)
		}
		if bytes.HasPrefix(buf[:n], []byte("HTTP/1.1 503")) {
			return errNoRoom
		}
		if opened != nil && bytes.Contains(buf[:n], []byte("\nid: ")) {
			opened()
			opened = nil
		}
	}
}

// writeLoad writes one secret over and over.
func writeLoad(url string) *httpLoad {
	return newHTTPLoad(url, map[string]string{"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "kv.write"},
		`"method":"tools/call","params":{"name":"kv.write","arguments":{"path":"app/config","data":{"password":"`+benchSecret+`"}},`+
			`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`)
}

func (l *httpLoad) write() error {
	_, answer, err := l.post(`{"jsonrpc":"2.0","id":` + strconv.FormatInt(l.next.Add(1), 10) + `,` + l.body)
	return hasText(answer, `"version":`, err)
}
