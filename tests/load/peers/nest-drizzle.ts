import "reflect-metadata";
import type { AddressInfo } from "node:net";
import { Body, Controller, Get, Inject, Module, NotFoundException, Param, Post, Query } from "@nestjs/common";
import { NestFactory } from "@nestjs/core";
import { given, serve } from "../child.ts";
import { tables } from "./tables.ts";

type Tables = ReturnType<typeof tables>;

/** NestJS on its default platform. Decorators are called as functions, since Node only strips types. */
class Resources {
  readonly #tables: Tables;

  constructor(known: Tables) {
    this.#tables = known;
  }

  agent = async (id: string) => show(await this.#tables.agent(id));
  agents = async (limit: string) => show(await this.#tables.agents(Number(limit)));
  webhook = async (id: string) => show(await this.#tables.webhook(id));
  call = async (id: string) => show(await this.#tables.call(id));
  calls = async (limit: string) => show(await this.#tables.calls(Number(limit)));
  createAgent = async (body: Parameters<Tables["createAgent"]>[0]) => show(await this.#tables.createAgent(body));
  createCall = async (body: Parameters<Tables["createCall"]>[0]) => show(await this.#tables.createCall(body));
}

function show<T>(found: T | null) {
  if (found === null) throw new NotFoundException();
  return { data: found };
}

const endpoints = [
  ["agent", Get("agents/:id"), Param("id")],
  ["agents", Get("agents"), Query("limit")],
  ["webhook", Get("webhooks/:id"), Param("id")],
  ["call", Get("calls/:id"), Param("id")],
  ["calls", Get("calls"), Query("limit")],
  ["createAgent", Post("agents"), Body()],
  ["createCall", Post("calls"), Body()],
] as const;

Inject("tables")(Resources, undefined, 0);
for (const [name, route, parameter] of endpoints) {
  // Decorators need a method of the prototype: it calls the field of the instance.
  const handler = {
    value(this: Resources, given: never) {
      return this[name](given);
    },
    configurable: true,
    writable: true,
  };
  const method = `handle_${name}`;
  Object.defineProperty(Resources.prototype, method, handler);
  route(Resources.prototype, method, handler);
  parameter(Resources.prototype, method, 0);
}
Controller()(Resources);

const known = tables(given("TENANT_URL"), given("CLIENT_ID"));
class App {}
Module({ controllers: [Resources], providers: [{ provide: "tables", useValue: known }] })(App);

const app = await NestFactory.create(App, { logger: false });
await app.listen(0, "127.0.0.1");
const port = (app.getHttpServer().address() as AddressInfo).port;
serve({ port: () => port }, async () => {
  await app.close();
  await known.close();
});
