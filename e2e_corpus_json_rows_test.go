package main_test

import (
	"encoding/json"
	"strings"
	"sync"
	"unicode/utf16"
)

// jsonRow is a message as bytes that is no call, and the JSON-RPC error's code
// that answers it.
type jsonRow struct {
	frame string
	rpc   int
}

// envelope is a good write but for one part of it.
func envelope(old, with string) string {
	const good = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{` + metaHole + `"name":"kv.write","arguments":{"path":"j","data":{"k":"v"}}}}`
	if !strings.Contains(good, old) {
		panic("the envelope has no " + old)
	}
	return strings.Replace(good, old, with, 1)
}

func writeOf(data string) string { return envelope(`{"k":"v"}`, data) }

// The codes of messages that are no call.
const (
	parseError     = -32700
	invalidRequest = -32600
	invalidParams  = -32602
)

// The rows are made when they are asked for: some are megabytes, and this binary
// is also the bare server of the benchmarks.

// brokenMessages never become a call. The unit tests of the frame gate have
// more rows; these are the ones of the corpus, against the whole product.
var brokenMessages = sync.OnceValue(func() map[string]jsonRow {
	return map[string]jsonRow{
		"duplicate method":        {frame: envelope(`"method"`, `"method":"tools/list","method"`), rpc: invalidRequest},
		"duplicate id":            {frame: envelope(`"id":7`, `"id":7,"id":8`), rpc: invalidRequest},
		"duplicate params":        {frame: envelope(`"params"`, `"params":{},"params"`), rpc: invalidRequest},
		"duplicate name":          {frame: envelope(`"name"`, `"name":"kv.list","name"`), rpc: invalidRequest},
		"duplicate by escape":     {frame: envelope(`"name"`, `"n\u0061me":"kv.list","name"`), rpc: invalidRequest},
		"duplicate arguments":     {frame: envelope(`"arguments"`, `"arguments":{},"arguments"`), rpc: invalidRequest},
		"duplicate argument":      {frame: envelope(`"path"`, `"path":"x","path"`), rpc: invalidRequest},
		"duplicate in data":       {frame: writeOf(`{"k":1,"k":2}`), rpc: invalidRequest},
		"duplicate deep in data":  {frame: writeOf(`{"a":[{"b":{"k":1,"\u006b":1}}]}`), rpc: invalidRequest},
		"Params":                  {frame: envelope(`"params"`, `"Params"`), rpc: invalidRequest},
		"Params beside params":    {frame: envelope(`"params"`, `"Params":{},"params"`), rpc: invalidRequest},
		"METHOD":                  {frame: envelope(`"method"`, `"METHOD"`), rpc: invalidRequest},
		"METHOD beside method":    {frame: envelope(`"method"`, `"METHOD":"tools/list","method"`), rpc: invalidRequest},
		"ID":                      {frame: envelope(`"id"`, `"ID"`), rpc: invalidRequest},
		"JsonRpc":                 {frame: envelope(`"jsonrpc"`, `"JsonRpc"`), rpc: invalidRequest},
		"folded params":           {frame: envelope(`"params"`, `"paramſ"`), rpc: invalidRequest},
		"method with NUL":         {frame: envelope(`"method"`, `"method\u0000"`), rpc: invalidRequest},
		"Name":                    {frame: envelope(`"name"`, `"Name"`), rpc: invalidParams},
		"Name beside name":        {frame: envelope(`"name"`, `"Name":"kv.destroy","name"`), rpc: invalidParams},
		"Arguments beside":        {frame: envelope(`"arguments"`, `"Arguments":{},"arguments"`), rpc: invalidParams},
		"folded arguments":        {frame: envelope(`"arguments"`, `"argumentſ":{},"arguments"`), rpc: invalidParams},
		"name with NUL":           {frame: envelope(`"name"`, `"name\u0000"`), rpc: invalidParams},
		"__proto__ in the frame":  {frame: envelope(`"id"`, `"__proto__":{"method":"tools/list"},"id"`), rpc: invalidRequest},
		"depth 257":               {frame: writeOf(nested(254)), rpc: invalidRequest},
		"depth 1001":              {frame: writeOf(nested(1001)), rpc: invalidRequest},
		"depth 1e6":               {frame: writeOf(`{"k":` + strings.Repeat("[", 1_000_000) + strings.Repeat("]", 1_000_000) + `}`), rpc: invalidRequest},
		"depth 1e6 without end":   {frame: strings.Repeat("[", 1_000_000), rpc: invalidRequest},
		"NaN":                     {frame: writeOf(`{"n":NaN}`), rpc: parseError},
		"Infinity":                {frame: writeOf(`{"n":-Infinity}`), rpc: parseError},
		"leading zero":            {frame: writeOf(`{"n":01}`), rpc: parseError},
		"plus sign":               {frame: envelope(`{"path":"j","data":{"k":"v"}}`, `{"path":"j","data":{},"cas":+5}`), rpc: parseError},
		"hexadecimal":             {frame: writeOf(`{"n":0x10}`), rpc: parseError},
		"lone surrogate":          {frame: writeOf(`{"k":"\ud800"}`), rpc: parseError},
		"surrogates reversed":     {frame: writeOf(`{"k":"\udc00\ud800"}`), rpc: parseError},
		"lone surrogate in name":  {frame: writeOf(`{"\ud800":1}`), rpc: parseError},
		"invalid UTF-8":           {frame: writeOf("{\"k\":\"\xff\xfe\"}"), rpc: parseError},
		"UTF-8 of a surrogate":    {frame: writeOf("{\"k\":\"\xed\xa0\x80\"}"), rpc: parseError},
		"overlong UTF-8":          {frame: writeOf("{\"k\":\"\xc0\xae\xc0\xae\"}"), rpc: parseError},
		"raw NUL in a text":       {frame: writeOf("{\"k\":\"\x00\"}"), rpc: parseError},
		"raw NUL between":         {frame: envelope(`"id"`, "\x00\"id\""), rpc: parseError},
		"raw tab in a text":       {frame: writeOf("{\"k\":\"\t\"}"), rpc: parseError},
		"trailing value":          {frame: envelope(`{"k":"v"}}}}`, `{"k":"v"}}}}{}`), rpc: parseError},
		"trailing message":        {frame: envelope(`{"k":"v"}}}}`, `{"k":"v"}}}} `+toolCall(`"kv.list"`, `{}`)), rpc: parseError},
		"trailing text":           {frame: envelope(`{"k":"v"}}}}`, `{"k":"v"}}}}x`), rpc: parseError},
		"trailing NUL":            {frame: envelope(`{"k":"v"}}}}`, "{\"k\":\"v\"}}}}\x00"), rpc: parseError},
		"one brace too many":      {frame: envelope(`{"k":"v"}}}}`, `{"k":"v"}}}}}`), rpc: parseError},
		"truncated":               {frame: strings.TrimSuffix(writeOf(`{"k":"v"}`), `}}`), rpc: parseError},
		"trailing comma":          {frame: writeOf(`{"k":1,}`), rpc: parseError},
		"comment":                 {frame: writeOf(`{"k":1 /* c */}`), rpc: parseError},
		"comment at the end":      {frame: envelope(`{"k":"v"}}}}`, `{"k":"v"}}}} // c`), rpc: parseError},
		"single quotes":           {frame: writeOf(`{'k':1}`), rpc: parseError},
		"name without quotes":     {frame: writeOf(`{k:1}`), rpc: parseError},
		"byte order mark":         {frame: "\ufeff" + writeOf(`{"k":"v"}`), rpc: parseError},
		"UTF-16":                  {frame: inUTF16(writeOf(`{"k":"v"}`)), rpc: parseError},
		"not JSON":                {frame: `GET / HTTP/1.1`, rpc: parseError},
		"a text":                  {frame: `"tools/call"`, rpc: parseError},
		"null":                    {frame: `null`, rpc: parseError},
		"batch":                   {frame: `[` + writeOf(`{"k":"v"}`) + `]`, rpc: invalidRequest},
		"batch of 1000":           {frame: `[` + strings.Repeat(writeOf(`{"k":"v"}`)+`,`, 999) + writeOf(`{}`) + `]`, rpc: invalidRequest},
		"empty batch":             {frame: `[]`, rpc: invalidRequest},
		"id null":                 {frame: envelope(`"id":7`, `"id":null`), rpc: invalidRequest},
		"id float":                {frame: envelope(`"id":7`, `"id":7.5`), rpc: invalidRequest},
		"id 1e400":                {frame: envelope(`"id":7`, `"id":1e400`), rpc: invalidRequest},
		"id 2^53+1":               {frame: envelope(`"id":7`, `"id":9007199254740993`), rpc: invalidRequest},
		"id of 1 MiB":             {frame: envelope(`"id":7`, `"id":"`+strings.Repeat("i", 1<<20)+`"`), rpc: invalidRequest},
		"params array":            {frame: envelope(`"params":{`+metaHole+`"name":"kv.write","arguments":{"path":"j","data":{"k":"v"}}}`, `"params":["kv.write"]`), rpc: invalidRequest},
		"arguments array":         {frame: envelope(`{"path":"j","data":{"k":"v"}}`, `["j"]`), rpc: invalidParams},
		"arguments text":          {frame: envelope(`{"path":"j","data":{"k":"v"}}`, `"{\"path\":\"j\"}"`), rpc: invalidParams},
		"4 MiB and a byte":        {frame: sized(4<<20 + 1), rpc: invalidRequest},
		"8 MiB":                   {frame: sized(8 << 20), rpc: invalidRequest},
		"other version":           {frame: envelope(`"2.0"`, `"1.0"`), rpc: invalidRequest},
		"call and answer at once": {frame: envelope(`"id"`, `"result":{},"id"`), rpc: invalidRequest},
	}
})

// refusedArguments are calls whose arguments are refused before Vault is asked.
var refusedArguments = sync.OnceValue(func() map[string]string {
	return map[string]string{
		"__proto__":            envelope(`"path"`, `"__proto__":{"path":"y"},"path"`),
		"constructor":          envelope(`"path"`, `"constructor":1,"path"`),
		"PATH":                 envelope(`"path"`, `"PATH"`),
		"Path beside path":     envelope(`"path"`, `"Path":"x","path"`),
		"path with NUL":        envelope(`"path"`, `"path\u0000":"x","path"`),
		"folded data":          envelope(`"data"`, `"paſth":{},"data"`),
		"mount":                envelope(`"path"`, `"mount":"secret/metadata","path"`),
		"mount out":            envelope(`"path"`, `"mount":"secret/../sys","path"`),
		"empty mount":          envelope(`"path"`, `"mount":"","path"`),
		"namespace":            envelope(`"path"`, `"namespace":"root","path"`),
		"token":                envelope(`"path"`, `"token":"root","path"`),
		"1e400":                writeOf(`{"n":1e400}`),
		"-1e400":               writeOf(`{"n":-1e400}`),
		"1e999999999999":       writeOf(`{"n":1e999999999999}`),
		"2^53+1":               writeOf(`{"n":9007199254740993}`),
		"20 digits":            writeOf(`{"n":12345678901234567890}`),
		"20 digits, deep":      writeOf(`{"a":[{"b":[12345678901234567891]}]}`),
		"more digits than fit": writeOf(`{"n":0.1234567890123456789}`),
		"number of 1 MiB":      writeOf(`{"n":` + strings.Repeat("9", 1<<20) + `}`),
		"below the smallest":   writeOf(`{"n":1e-400}`),
		"text over 1 MiB":      writeOf(`{"k":"` + strings.Repeat("x", 1<<20+1) + `"}`),
		"arguments over 2 MiB": writeOf(argumentsOf(2<<20 + 1)),
		"10 001 members":       writeOf(members(10_001)),
		"10 001 items":         writeOf(`{"k":[` + strings.Repeat("1,", 10_000) + `1]}`),
		"data null":            writeOf(`null`),
		"data text":            writeOf(`"{}"`),
		"data array":           writeOf(`[]`),
		"path null":            envelope(`"j"`, `null`),
		"path array":           envelope(`"j"`, `["j"]`),
		"cas -1":               envelope(`{"k":"v"}}`, `{"k":"v"},"cas":-1}`),
		"cas 1.5":              envelope(`{"k":"v"}}`, `{"k":"v"},"cas":1.5}`),
		"cas 2^53+1":           envelope(`{"k":"v"}}`, `{"k":"v"},"cas":9007199254740993}`),
		"cas 1e400":            envelope(`{"k":"v"}}`, `{"k":"v"},"cas":1e400}`),
		"cas text":             envelope(`{"k":"v"}}`, `{"k":"v"},"cas":"0"}`),
		"cas in other digits":  envelope(`{"k":"v"}}`, `{"k":"v"},"cas":"٣"}`),
		"cas null":             envelope(`{"k":"v"}}`, `{"k":"v"},"cas":null}`),
		"cas true":             envelope(`{"k":"v"}}`, `{"k":"v"},"cas":true}`),
	}
})

// keptData are written, and Vault keeps them as they are.
var keptData = sync.OnceValue(func() map[string]string {
	return map[string]string{
		"names of JavaScript":     `{"__proto__":{"a":1},"constructor":"c","toString":null}`,
		"names of Vault's API":    `{"data":{"data":1},"options":{"cas":0},"cas":99,"metadata":{}}`,
		"data null inside":        `{"data":null}`,
		"no members":              `{}`,
		"name with slashes":       `{"a/../b":"x","":"empty"," ":"blank"}`,
		"names that differ a bit": `{"k":1,"K":2,"\u212a":3,"ſ":4,"k\u0000":5}`,
		"NUL in a text":           `{"k":"a\u0000b"}`,
		"controls":                `{"k":"line\nline\r\n\u001b[2J\u0085\u2028\u2029"}`,
		"twins of Unicode":        `{"\u00e9":"\u00e9","e\u0301":"e\u0301"}`,
		"beyond the first plane":  `{"\ud83e\udd16":"\ud83e\udd16","u":"🤖"}`,
		"what is no character":    `{"k":"\ufffd\uffff\ufeff"}`,
		"HTML":                    `{"k":"<script>&amp;</script>"}`,
		"2^53":                    `{"n":9007199254740992}`,
		"-2^53":                   `{"n":-9007199254740992}`,
		"large and exact":         `{"n":1e300,"m":123456789012345680000}`,
		"fractions":               `{"n":0.1,"m":-2.5e-7,"o":1.0,"p":1E2}`,
		"depth 256":               nested(253),
		"10 000 members":          members(10_000),
		"text of 1 MiB":           `{"k":"` + strings.Repeat("x", 1<<20) + `"}`,
		"arguments of 2 MiB":      argumentsOf(2 << 20),
	}
})

// nested are data of so many levels.
func nested(depth int) string {
	return strings.Repeat(`{"a":`, depth) + `1` + strings.Repeat(`}`, depth)
}

func members(n int) string {
	all := make(map[string]int, n)
	for i := range n {
		all[strings.Repeat("m", 1+i%7)+strings.Repeat("n", i/7%60)+string(rune('A'+i%26))+quote(string(rune(0x4e00+i)))] = i
	}
	b, _ := json.Marshal(all)
	return string(b)
}

// argumentsOf are data that make the arguments of a write so many bytes long.
func argumentsOf(size int) string {
	const around = len(`{"path":"j","data":`) + len(`}`) + len(`{"a":"","b":"","c":""}`)
	third := (size - around) / 3
	x := strings.Repeat("x", third)
	return `{"a":"` + x + `","b":"` + x + `","c":"` + strings.Repeat("x", size-around-2*third) + `"}`
}

// sized is a good write of so many bytes, once it has its _meta or not: blanks
// fill it.
func sized(size int) string {
	frame := writeOf(`{"k":"v"}`)
	return strings.Replace(frame, `"id":7,`, `"id":7,`+strings.Repeat(" ", size-len(strings.Replace(frame, metaHole, "", 1))), 1)
}

func inUTF16(s string) string {
	b := []byte{0xff, 0xfe}
	for _, unit := range utf16.Encode([]rune(s)) {
		b = append(b, byte(unit), byte(unit>>8))
	}
	return string(b)
}
