// The peer of the pinger's HTTP probe: a goroutine for each unit asks it once in an interval with net/http, and proves the answer
// by its MAC. Takes a task as JSON on stdin, prints its findings.
package main

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	macBytes         = 16
	maxResponseBytes = 8 * 1024
)

type task struct {
	File       string `json:"file"`
	Ports      []int  `json:"ports"`
	KeepAlive  bool   `json:"keepAlive"`
	IntervalMs int    `json:"intervalMs"`
	TimeoutMs  int    `json:"timeoutMs"`
	WarmUpMs   int    `json:"warmUpMs"`
	RunMs      int    `json:"runMs"`
}

type findings struct {
	Pings    int64   `json:"pings"`
	Answered int64   `json:"answered"`
	CPUS     float64 `json:"cpuS"`
}

type unit struct {
	name string
	key  []byte
	base string
}

type reply struct {
	Unit              string `json:"unit"`
	BootID            string `json:"bootId"`
	UptimeS           int64  `json:"uptimeS"`
	ConfigurationHash string `json:"configurationHash"`
	Epoch             string `json:"epoch"`
	LastSeq           int64  `json:"lastSeq"`
	Time              string `json:"time"`
	Mac               string `json:"mac"`
}

var pings, answered atomic.Int64

func main() {
	var given task
	must(json.NewDecoder(os.Stdin).Decode(&given))
	units := readUnits(given)
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives:   !given.KeepAlive,
		MaxIdleConnsPerHost: 1,
		DisableCompression:  true,
	}}
	interval := milliseconds(given.IntervalMs)
	for index, one := range units {
		go pingForever(client, one, interval*time.Duration(index)/time.Duration(len(units)), interval, milliseconds(given.TimeoutMs))
	}
	time.Sleep(milliseconds(given.WarmUpMs))
	pingsBefore, answeredBefore, cpuBefore := pings.Load(), answered.Load(), cpuSeconds()
	time.Sleep(milliseconds(given.RunMs))
	must(json.NewEncoder(os.Stdout).Encode(findings{
		Pings:    pings.Load() - pingsBefore,
		Answered: answered.Load() - answeredBefore,
		CPUS:     cpuSeconds() - cpuBefore,
	}))
}

func pingForever(client *http.Client, one unit, offset, interval, timeout time.Duration) {
	time.Sleep(offset)
	for range time.NewTicker(interval).C {
		pings.Add(1)
		if ping(client, one, timeout) == nil {
			answered.Add(1)
		}
	}
}

func ping(client *http.Client, one unit, timeout time.Duration) error {
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		return err
	}
	nonce := hex.EncodeToString(random[:])
	clock := strconv.FormatInt(time.Now().UnixMilli(), 10)
	query := url.Values{"nonce": {nonce}, "clock": {clock}, "mac": {mac(one.key, one.name, nonce, "", clock)}}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, one.base+query.Encode(), nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxResponseBytes))
	if err != nil {
		return err
	}
	var said reply
	if err := json.Unmarshal(body, &said); err != nil {
		return err
	}
	expected := mac(one.key, one.name, nonce, said.BootID, strconv.FormatInt(said.UptimeS, 10), said.ConfigurationHash,
		said.Epoch, strconv.FormatInt(said.LastSeq, 10), said.Time)
	if response.StatusCode != http.StatusOK || said.Unit != one.name || !hmac.Equal([]byte(said.Mac), []byte(expected)) {
		return fmt.Errorf("%s gave no answer of its own", one.name)
	}
	return nil
}

func mac(key []byte, lines ...string) string {
	hash := hmac.New(sha256.New, key)
	hash.Write([]byte(strings.Join(lines, "\n")))
	return hex.EncodeToString(hash.Sum(nil)[:macBytes])
}

func readUnits(given task) []unit {
	file, err := os.Open(given.File)
	must(err)
	defer file.Close()
	var units []unit
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		key, err := hex.DecodeString(fields[1])
		must(err)
		port := given.Ports[len(units)%len(given.Ports)]
		units = append(units, unit{fields[0], key, fmt.Sprintf("http://%s:%d/ping?", fields[2], port)})
	}
	return units
}

// Of this process with all its threads.
func cpuSeconds() float64 {
	var used syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds()
}

func milliseconds(count int) time.Duration {
	return time.Duration(count) * time.Millisecond
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
