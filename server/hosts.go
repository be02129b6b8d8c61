package server

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// hosts are the names under which this server may be addressed, and the
// origins from which a browser may. A web page can point a name of its own at
// our address (DNS rebinding), so the name counts and not the address.
type hosts struct {
	any     map[string]bool // host names with any port
	exact   map[string]bool // host:port
	origins map[string]bool // scheme://host[:port]
}

func newHosts(opt Options) (hosts, error) {
	h := hosts{
		any:     map[string]bool{"localhost": true, "127.0.0.1": true, "::1": true},
		exact:   make(map[string]bool),
		origins: make(map[string]bool),
	}
	for i, entry := range opt.AllowedHosts {
		name, port := splitHost(entry)
		switch {
		case name == "" || strings.ContainsAny(entry, "/ *"):
			return h, fmt.Errorf("ALLOWED_HOSTS: entry %d is not a host or host:port", i+1)
		case port == "":
			h.any[name] = true
		default:
			h.exact[net.JoinHostPort(name, port)] = true
		}
	}
	for i, entry := range opt.AllowedOrigins {
		origin, ok := parseOrigin(entry)
		if !ok {
			return h, fmt.Errorf("CORS_ALLOW_ORIGINS: entry %d is not scheme://host[:port]", i+1)
		}
		h.origins[origin] = true
	}
	if opt.PublicURL == "" {
		return h, nil
	}
	public, err := url.Parse(opt.PublicURL)
	if err != nil || public.Host == "" {
		return h, fmt.Errorf("PUBLIC_URL is not a URL with a host")
	}
	h.any[strings.ToLower(public.Hostname())] = true
	if origin, ok := parseOrigin(public.Scheme + "://" + public.Host); ok {
		h.origins[origin] = true
	}
	return h, nil
}

// listening allows the address that a listener is bound to, if it is one
// address and not all.
func (h *hosts) listening(addr net.Addr) {
	if tcp, ok := addr.(*net.TCPAddr); ok && !tcp.IP.IsUnspecified() {
		h.any[strings.ToLower(tcp.IP.String())] = true
	}
}

// allowsHost checks a request's Host.
func (h *hosts) allowsHost(host string) bool {
	name, port := splitHost(host)
	return h.any[name] || (port != "" && h.exact[net.JoinHostPort(name, port)])
}

// allowsOrigin checks where a browser says that a request comes from. Requests
// without an Origin are not from a browser's scripts, unless Sec-Fetch-Site
// says otherwise. A page of this server itself is allowed under loopback names:
// the Host was checked before.
func (h *hosts) allowsOrigin(r *http.Request) bool {
	given := r.Header["Origin"]
	if len(given) == 0 {
		site := r.Header.Get("Sec-Fetch-Site")
		return site == "" || site == "same-origin" || site == "none"
	}
	origin, ok := parseOrigin(given[0])
	if !ok || len(given) > 1 {
		return false
	}
	if h.origins[origin] {
		return true
	}
	_, host, _ := strings.Cut(origin, "://")
	name, _ := splitHost(host)
	return strings.EqualFold(host, r.Host) && isLoopback(name)
}

func isLoopback(name string) bool {
	ip := net.ParseIP(name)
	return name == "localhost" || (ip != nil && ip.IsLoopback())
}

// splitHost splits host[:port], in lower case and without brackets.
func splitHost(hostport string) (name, port string) {
	hostport = strings.ToLower(hostport)
	if name, port, err := net.SplitHostPort(hostport); err == nil {
		return name, port
	}
	name = strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
	if strings.Contains(name, ":") && net.ParseIP(name) == nil {
		return "", ""
	}
	return name, ""
}

// parseOrigin checks and lower-cases an origin.
func parseOrigin(s string) (string, bool) {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" ||
		u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(s, "#?*") {
		return "", false
	}
	// Browsers leave out the port that goes without saying.
	host := strings.TrimSuffix(strings.ToLower(u.Host), map[string]string{"http": ":80", "https": ":443"}[u.Scheme])
	return u.Scheme + "://" + host, true
}
