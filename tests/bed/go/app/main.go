// Command app is a small service made to be broken in chosen ways.
//
// Environment: PORT (8080), VERSION, START_DELAY (a duration before it is ready),
// SCRATCH (a folder; a poison file in it makes the process exit 3 at start),
// BAD (exit or 1: exits 1 at start; unready: never ready; errors: answers 500).
package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const poisonFile = "poison"

type app struct {
	ready   atomic.Bool
	hung    atomic.Bool
	delay   atomic.Int64  // added to every answer of "/", in nanoseconds
	failing atomic.Uint64 // of 100 answers of "/", so many are 500
	turn    atomic.Uint64
	scratch string
	version string
	meter   *meter

	mu    sync.Mutex
	hoard [][]byte
}

func main() {
	a := &app{scratch: os.Getenv("SCRATCH"), version: or(os.Getenv("VERSION"), "1"), meter: newMeter()}
	a.start()
	port := or(os.Getenv("PORT"), "8080")

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	go func() {
		<-signals
		fmt.Println("SIGTERM: leaving")
		os.Exit(0)
	}()

	fmt.Printf("version %s listening on %s\n", a.version, port)
	fmt.Println(http.ListenAndServe(":"+port, a.routes()))
	os.Exit(1)
}

// start refuses to run on poisoned state, and is bad in the way BAD asks for.
func (a *app) start() {
	if a.scratch != "" {
		if _, err := os.Stat(filepath.Join(a.scratch, poisonFile)); err == nil {
			fmt.Println("fatal: scratch state is corrupt:", filepath.Join(a.scratch, poisonFile))
			os.Exit(3)
		} else if !errors.Is(err, os.ErrNotExist) {
			fmt.Println("cannot look at scratch:", err)
		}
	}
	switch os.Getenv("BAD") {
	case "1", "exit":
		fmt.Println("fatal: this version is bad")
		os.Exit(1)
	case "unready":
		return
	case "errors":
		a.failing.Store(100)
	}
	delay, _ := time.ParseDuration(os.Getenv("START_DELAY"))
	time.AfterFunc(delay, func() { a.ready.Store(true) })
}

func (a *app) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", a.serve)
	mux.HandleFunc("/healthz", say("ok"))
	mux.HandleFunc("/ready", a.readiness)
	mux.HandleFunc("/metrics", a.metrics)
	mux.HandleFunc("/crash", func(http.ResponseWriter, *http.Request) { os.Exit(3) })
	mux.HandleFunc("/hang", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "hanging from now on")
		a.hung.Store(true)
	})
	mux.HandleFunc("/unready", func(http.ResponseWriter, *http.Request) { a.ready.Store(false) })
	mux.HandleFunc("/beready", func(http.ResponseWriter, *http.Request) { a.ready.Store(true) })
	mux.HandleFunc("/slow", a.slow)
	mux.HandleFunc("/errors", a.fail)
	mux.HandleFunc("/poison", a.poison)
	mux.HandleFunc("/leak", a.leak)
	mux.HandleFunc("/burn", burn)
	mux.HandleFunc("/call", call)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.hung.Load() {
			<-r.Context().Done() // answers nothing, for ever: neither probes nor metrics
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// serve is the service itself: /?work=10ms burns that much processor time first.
func (a *app) serve(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	done := a.meter.enter()
	if work, err := time.ParseDuration(r.URL.Query().Get("work")); err == nil {
		spin(work)
	}
	time.Sleep(time.Duration(a.delay.Load()))
	code := http.StatusOK
	if a.turn.Add(1)%100 < a.failing.Load() {
		code = http.StatusInternalServerError
	}
	w.WriteHeader(code)
	fmt.Fprintf(w, "%s version %s\n", os.Getenv("HOSTNAME"), a.version)
	done(code, time.Since(begin))
}

func (a *app) readiness(w http.ResponseWriter, _ *http.Request) {
	if !a.ready.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// slow makes every later answer late: /slow?by=300ms, and /slow?by=0s heals.
func (a *app) slow(w http.ResponseWriter, r *http.Request) {
	by, err := time.ParseDuration(r.URL.Query().Get("by"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.delay.Store(int64(by))
}

// fail makes a share of the answers a 500: /errors?percent=50.
func (a *app) fail(w http.ResponseWriter, r *http.Request) {
	percent, err := strconv.ParseUint(r.URL.Query().Get("percent"), 10, 32)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.failing.Store(percent)
}

// poison corrupts the scratch state and dies of it: no restart of the container heals
// that, a new pod (with a new emptyDir) does. /poison?crash=no only writes the file.
func (a *app) poison(w http.ResponseWriter, r *http.Request) {
	if a.scratch == "" {
		http.Error(w, "SCRATCH is not set", http.StatusConflict)
		return
	}
	if err := os.WriteFile(filepath.Join(a.scratch, poisonFile), []byte("poison\n"), 0o644); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if r.URL.Query().Get("crash") != "no" {
		os.Exit(3)
	}
}

// leak keeps so many MiB for ever: /leak?mb=16.
func (a *app) leak(w http.ResponseWriter, r *http.Request) {
	mb, _ := strconv.Atoi(r.URL.Query().Get("mb"))
	a.mu.Lock()
	defer a.mu.Unlock()
	for range mb {
		block := make([]byte, 1<<20)
		for i := range block {
			block[i] = byte(i) // touched, so that it is resident
		}
		a.hoard = append(a.hoard, block)
	}
	fmt.Fprintln(w, len(a.hoard))
}

// burn uses one processor for so long: /burn?for=5s, at most a minute.
func burn(w http.ResponseWriter, r *http.Request) {
	length, err := time.ParseDuration(r.URL.Query().Get("for"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintln(w, spin(min(length, time.Minute)))
}

// call asks another address from in here and tells its answer: /call?url=http://...
func call(w http.ResponseWriter, r *http.Request) {
	// Certificates are not looked at: the question is only whether packets arrive.
	insecure := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	client := http.Client{Timeout: 2 * time.Second, Transport: insecure}
	answer, err := client.Get(r.URL.Query().Get("url"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	w.WriteHeader(answer.StatusCode)
	io.Copy(w, io.LimitReader(answer.Body, 1<<20))
}

func (a *app) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	a.mu.Lock()
	hoarded := len(a.hoard)
	a.mu.Unlock()
	a.meter.write(w, a.version, a.ready.Load(), hoarded<<20)
}

func spin(length time.Duration) (turns int) {
	for begin := time.Now(); time.Since(begin) < length; {
		turns++
	}
	return turns
}

func say(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, text) }
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
