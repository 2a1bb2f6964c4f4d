// A backend behind the filter, with nothing but Go: WECOM_BACKEND_SECRET=… go run . 8080
package main

import (
	"crypto/md5"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

type callback struct {
	BaseInfo struct {
		DeviceSN string `json:"device_sn"`
	} `json:"base_info"`
	Event struct {
		VerifCode   string `json:"verif_code"`
		DeviceSNMD5 string `json:"device_sn_md5"`
	} `json:"event"`
}

type key struct{ receiveID, reqID string }

var (
	secret = os.Getenv("WECOM_BACKEND_SECRET")
	codes  = map[string]string{"sn-1001": "123456", "sn-1002": "654321"} // serial number: what the user types
	bound  = map[string]bool{}                                           // in life, a table of the devices
	// Only ever grows. In life, a table with a unique key on both ids, whose rows go after dedup.ttl_seconds.
	answers = map[key]string{}
	mutex   sync.Mutex // guards both
)

// verdict on a bind: https://developer.work.weixin.qq.com/document/path/95987 has the codes.
func verdict(device, code string) int {
	known, exists := codes[device]
	switch {
	case !exists:
		return 7
	case code != known:
		return 6
	case bound[device]:
		return 2
	}
	bound[device] = true
	return 0
}

// answer to a callback, an empty one if it was taken; and whether its type is known.
func answer(event string, message callback) (string, bool) {
	device := message.BaseInfo.DeviceSN
	switch event {
	case "bind":
		return fmt.Sprintf(`{"errcode":%d}`, verdict(device, message.Event.VerifCode)), true
	case "verify_device":
		for device := range codes {
			if strings.EqualFold(message.Event.DeviceSNMD5, fmt.Sprintf("%x", md5.Sum([]byte(device)))) {
				return `{"is_valid":true,"modelid":"2000000000000001"}`, true
			}
		}
		return `{"is_valid":false}`, true
	case "user_scan":
		if _, exists := codes[device]; exists {
			return `{"online_status":1}`, true
		}
		return `{"online_status":2}`, true
	case "unbind":
		delete(bound, device)
		return "", true
	case "contact_change", "model_ticket", "update_firmware", "fetch_device_status", "enter_page", "exit_page",
		"remote_open_door", "delete_bio_info", "printer_job_submit", "printer_job_trans", "printer_job_del":
		return "", true
	}
	return "", false
}

// answerOnce answers as before if the key is there. Of several requests with one key the first decides, and the
// others wait for it.
func answerOnce(k key, event string, message callback) (string, bool) {
	mutex.Lock()
	defer mutex.Unlock()
	if said, exists := answers[k]; exists {
		return said, true
	}
	said, known := answer(event, message)
	if known && k.reqID != "" {
		answers[k] = said
	}
	fmt.Println(map[bool]string{true: "handled", false: "unknown"}[known], event, k.reqID)
	return said, known
}

func handle(w http.ResponseWriter, r *http.Request) {
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("authorization")), []byte(secret)) != 1 {
		http.Error(w, `{"error":"not the filter"}`, http.StatusUnauthorized)
		return
	}
	var message callback
	if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
		http.Error(w, `{"error":"not a callback"}`, http.StatusBadRequest)
		return
	}
	k := key{r.Header.Get("x-wecom-receive-id"), r.Header.Get("idempotency-key")}
	said, known := answerOnce(k, r.Header.Get("x-wecom-event"), message)
	if !known {
		http.Error(w, `{"error":"not a type that is known"}`, http.StatusNotImplemented)
		return
	}
	w.Header().Set("content-type", "application/json")
	w.Header().Set("content-length", fmt.Sprint(len(said))) // an empty body counts as an answer only with it
	fmt.Fprint(w, said)
}

func main() {
	if secret == "" || len(os.Args) != 2 {
		log.Fatal("WECOM_BACKEND_SECRET is not set, or no port is given")
	}
	http.HandleFunc("/bind", handle)
	http.HandleFunc("/events", handle)
	server := http.Server{
		Addr:         "127.0.0.1:" + os.Args[1], // or a private one: nobody but the filter may reach it
		ReadTimeout:  5 * time.Second,
		WriteTimeout: 5 * time.Second,
		IdleTimeout:  2 * time.Hour, // longer than Envoy keeps an idle connection, or it could send on one that ends
	}
	log.Fatal(server.ListenAndServe())
}
